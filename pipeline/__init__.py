"""What runs, where and when: configuration, the graph, the runners and the command line."""
