"""The command `aquasurf`: thin modules, one a group of commands, that parse, call and print."""
