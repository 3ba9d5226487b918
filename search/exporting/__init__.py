"""From a policy to a file a runtime executes, and back to a figure measured on that file."""
