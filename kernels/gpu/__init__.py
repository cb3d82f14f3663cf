"""Triton kernels: costs on tensor cores, Sinkhorn, the auction, its exact finish, certificates.

Names say what a value is: ``p_`` a pointer, ``i_`` an index, ``o_`` offsets, ``m_`` a mask, ``b_``
a block of values, BLOCK and other capitals what is known when a kernel is compiled.

``row * 0 - 1`` is a minus one of the type of ``row``. A plain number is an int32 or a float32 when
it is compiled, and a loop that makes it another type is refused; when it is interpreted it is one
of Python's, which has none of Triton's methods.
"""
