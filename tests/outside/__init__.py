"""Small inputs from outside that once broke kvopt or were refused, each with what is right for it.

Each stands for a kind of fault; the tests of the module that was mended try the kind. ``data/`` has the files: invented
values in public forms.
"""
