"""The CPU backend, around ``kernels/cpu``; imported when it is first wanted."""
