/*
 * promptops-sidecar: the command line, then either one of its small jobs (--check, --print-config,
 * --help, --version) or the proxy itself.
 */
#include <stdio.h>

#include "proxy/command_line.h"
#include "proxy/control.h"

int main(int argc, char **argv)
{
    struct command_line cl;
    int code = command_line_parse(argc, argv, &cl);
    if (code != 0)
        command_line_usage(&cl, stderr);
    else if (cl.command == COMMAND_RUN)
        code = control_run(&cl.sources);
    else
        code = command_line_act(&cl, stdout, stderr);
    command_line_free(&cl);
    return code;
}
