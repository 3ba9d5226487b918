"""What people read: a run directory rendered as one self-contained page."""
