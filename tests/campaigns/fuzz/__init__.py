"""Mutated files, texts and arguments for everything that reads: none may end in a bare exception, a crash or a second.

``python -m tests.campaigns.fuzz --inputs 100000`` tries that many, shared out over all readers, in processes whose
memory is limited and whose hangs are noticed. Input number k of a reader depends on the seed and on k alone.
"""
