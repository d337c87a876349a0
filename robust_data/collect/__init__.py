"""Collecting: training and recording, in our loop or in a user's."""
