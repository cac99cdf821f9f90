"""From a user's file to token ids."""
