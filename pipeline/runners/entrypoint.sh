#!/bin/sh
# A runner of Beam starts its workers with options of boot's, such as --id=1; all else is a newsdesk command.
case "${1:-}" in
  --help | --version) exec newsdesk "$@" ;;
  --*) exec "${BEAM_BOOT:-/opt/apache/beam/boot}" "$@" ;;
  *) exec newsdesk "$@" ;;
esac
