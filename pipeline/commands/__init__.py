"""The commands `cmclrec prepare`, `cmclrec pipeline ...` and `cmclrec quickstart`."""
