"""The ``newsdesk`` command: one thin module per subcommand."""
