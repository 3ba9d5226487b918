"""Where trials run: in this process, or under Ray Tune."""
