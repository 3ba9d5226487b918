"""Tasks: a trained model with data split for calibration, search and test."""
