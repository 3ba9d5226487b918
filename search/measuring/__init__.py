"""Subcommands of ``bitfront-measure``, one file each."""
