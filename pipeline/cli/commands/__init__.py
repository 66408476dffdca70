"""One module per subcommand of ``newsdesk``; none imports another."""
