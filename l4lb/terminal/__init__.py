"""Tables for people, printed by the commands and the demo."""
