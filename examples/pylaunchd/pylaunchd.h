/* What the two files of pylaunchd share. */
#ifndef PYLAUNCHD_H
#define PYLAUNCHD_H

#define FD_LENGTH 12

/* The agent's command line, ended by NULL: the Python, the agent, its options. */
struct arguments {
    int count;
    char *list[20];
};

/* Runs the command line inside this process. The agent says _pylaunchd.ready() when it serves.
   Returns the exit status of the agent. */
int embed_python(const struct arguments *arguments, int ready_fd);

#endif
