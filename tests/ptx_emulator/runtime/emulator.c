// All of the emulator's machine code; forms.h is written by forms.py.
#include "memory.h"
#include "arithmetic.h"
#include "warp.h"
#include "matrix.h"
#include "forms.h"
#include "handlers.h"
#include "schedule.h"
