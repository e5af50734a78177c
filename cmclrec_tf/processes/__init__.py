"""What lets commands be stopped, run next to each other, and survive a full disk."""
