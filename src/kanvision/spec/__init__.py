"""Names, sizes and legal values that the configuration and the code share; each stands here only.

These modules import nothing but `typing`. A set of legal values is a `Literal` and its tuple is `get_args` of
it. A table with an entry for each value is annotated `dict[<the Literal>, ...]`; a test checks that no entry
is missing.
"""
