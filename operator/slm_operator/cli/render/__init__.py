"""What a person or a script reads: text from values, no request."""
