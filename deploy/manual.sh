#!/bin/sh
# The manual page of promptops-sidecar, made of what the program itself says: deploy/manual.sh PROGRAM >promptops-sidecar.1
set -eu
program=$1
version=$("$program" --version | sed -n '1s/^[^ ]* \([^ ]*\).*/\1/p')
echo ".TH PROMPTOPS\\-SIDECAR 1 \"\" \"promptops\\-sidecar $version\""
cat <<'TOP'
.SH NAME
promptops\-sidecar \- caching reverse proxy beside an application, in front of the PromptOps API
.SH SYNOPSIS
.B promptops\-sidecar
[\fB\-\-config\fR \fIFILE\fR] [\fB\-\-set\fR \fIKEY\fR=\fIVALUE\fR]...
.SH SIGNALS
TERM drains: not ready any more, and an end when the application has finished, after
.B drain_timeout
at the latest. INT ends as soon as what is in flight is finished. HUP reads the configuration and secrets again. USR1 opens
the log file again.
.SH EXIT STATUS
0 after an end that was asked for; 1 when it could not start or go on (a port that is taken); 2 when the command line or the
configuration is wrong.
.SH FILES
.I /etc/promptops\-sidecar/sidecar.yaml
is what the service reads.
.SH OPTIONS AND CONFIGURATION
.nf
TOP
"$program" --help | sed -e 's/\\/\\e/g' -e 's/-/\\-/g' -e "s/^\\([.']\\)/\\\\\\&\\1/"
printf '.fi\n.SH SEE ALSO\n.BR promptops\\-perf (1)\n'
