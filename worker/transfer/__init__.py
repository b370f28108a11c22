"""How sessions come from other libraries and files, and go there."""
