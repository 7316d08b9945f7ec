"""The command `aquasurf`: thin modules, one for each command, that parse, call and print."""
