"""User-facing errors: each names the bad value, the rule it breaks and the fix."""


class ReadableError(Exception):
    """An error with a one-line message for users: commands print it without a traceback."""


class InputError(ReadableError, ValueError):
    """Bad input. The message is one line: "<value>: <rule>. <fix>".

    Args:
        value: the bad value in readable form (a path, a column, a setting and its number).
        rule: what is required of the value.
        fix: what the user can do about it, as a whole sentence.

    Example:
        >>> import cmclrec_tf as cm
        >>> cm.Feature("age", kind="number")
        Traceback (most recent call last):
        ...
        cmclrec_tf.errors.InputError: user feature 'age' of kind 'number': kinds are ...
        >>> print(cm.InputError("k=0", "it must be positive", "Correct it in the config."))
        k=0: it must be positive. Correct it in the config.
    """

    def __init__(self, value: object, rule: str, fix: str) -> None:
        self.value, self.rule, self.fix = str(value), rule, fix
        super().__init__(f"{value}: {rule}. {fix}".replace("\n", " "))

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str, str]]:
        # Beam and multiprocessing pickle exceptions to carry them between processes.
        return type(self), (self.value, self.rule, self.fix)


class TrainingError(ReadableError):
    """The training failed for a reason that another config can fix."""
