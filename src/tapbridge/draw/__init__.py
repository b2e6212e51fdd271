"""States and guests as pictures and trees."""
