"""The GPU backend, around ``kernels/gpu``; imported when it is first wanted."""
