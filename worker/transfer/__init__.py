"""How sessions come in from elsewhere and go out again."""
