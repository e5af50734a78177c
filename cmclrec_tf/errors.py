"""What goes wrong in a way that its reader can mend, and how it reads."""


class ReadableError(Exception):
    """An error whose text is one line for people: a command prints it without a traceback."""


class InputError(ReadableError, ValueError):
    """Bad input: says the value, the rule it breaks and how to mend it, in one line.

    Args:
        value: what was found, already readable (a path, a column, a number).
        rule: what is required of it.
        mend: what the reader can do about it.
    """

    def __init__(self, value, rule, mend):
        self.value, self.rule, self.mend = str(value), rule, mend
        super().__init__(f"{value}: {rule}. {mend}".replace("\n", " "))

    def __reduce__(self):
        # Beam and multiprocessing carry exceptions between processes.
        return type(self), (self.value, self.rule, self.mend)
