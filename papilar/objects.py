"""What a store of objects says when it fails, be it one of archives or one of originals.

The file systems of `fsspec` turn what a store answers into errors of Python's own, and keep what it said
behind them. Here that is looked up: by its words, so that no package of a store needs to be installed.
"""

_NO_CREDENTIALS = frozenset(
    {
        "CredentialRetrievalError",  # classes of botocore: there are no credentials, or they cannot be had
        "NoAuthTokenError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "RefreshWithMFAUnsupportedError",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
        "ExpiredToken",  # codes of S3: they were refused, https://docs.aws.amazon.com/AmazonS3/latest/API
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "NotSignedUp",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)

_NO_ROOM = frozenset({"507", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"})


def said_by_store(error: BaseException) -> str:
    """Return what the store itself calls an error; never what it says of addresses or keys.

    Parameters
    ----------
    error : BaseException
        Of a file system of `fsspec`.

    Returns
    -------
    str
        A code of S3, as `NoSuchKey`, or of HTTP, as `404`; else the name of the error's class.
    """
    for each in (error, error.__cause__):
        answer = getattr(each, "response", None)
        code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
        code = code or getattr(each, "status", None)
        if code:
            return str(code)
    return type(error).__name__


def past_the_end(error: BaseException) -> bool:
    """Tell whether a part was asked for that a file does not have, as of an empty one: RFC 9110, 15.5.17."""
    return said_by_store(error) in {"416", "InvalidRange"}


def no_credentials(error: BaseException) -> bool:
    """Tell whether it is not one file that is refused but whoever asks."""
    return said_by_store(error) in _NO_CREDENTIALS


def no_bucket(error: BaseException) -> bool:
    """Tell whether what should hold the files is not there; that is another thing than a file that is not."""
    return said_by_store(error) == "NoSuchBucket"


def no_room(error: BaseException) -> bool:
    """Tell whether the store is full, or what one may keep there is."""
    return said_by_store(error) in _NO_ROOM
