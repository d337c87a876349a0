"""From the command line to what a script is to do: parsers, and their arguments resolved."""
