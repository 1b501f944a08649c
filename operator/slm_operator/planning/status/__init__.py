"""What is written to a status and said in events, whatever was planned."""
