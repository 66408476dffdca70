#!/bin/sh
# What a runner of Beam starts as a worker says so in its first argument; all else is a newsdesk command.
case "${1:-}" in
  --id=* | --worker_pool*) exec /opt/apache/beam/boot "$@" ;;
  *) exec newsdesk "$@" ;;
esac
