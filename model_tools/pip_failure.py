"""Why pip failed, in one line. Standard library only: needed before there is an environment."""


def pip_failure(output: str) -> str:
    """Returns the most informative line of a failed pip's output, or a line that says more."""
    if "CERTIFICATE_VERIFY_FAILED" in output:  # before the retries that it causes
        return (
            "PyPI's certificate is not trusted; behind a proxy that has its own,"
            " set PIP_CERT=/path/to/certificates.pem"
        )
    if "Retrying (" in output:
        return "PyPI does not answer; is there a network?"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # Where a build fails, pip's last lines only say that the error is that of a subprocess.
    errors = [line for line in lines if "error" in line.lower() and "subprocess" not in line]
    return (errors or lines or ["pip failed without a word"])[-1]
