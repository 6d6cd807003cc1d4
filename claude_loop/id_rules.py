"""What ids and types look like. Nothing is imported here: `emit` needs these rules at every call."""

MAX_ID_LENGTH = 128
MAX_TYPE_LENGTH = 128
# A JSON string holds any character; an id must also survive a terminal, a URL and a log line.
ID_PATTERN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,128}\Z"
TYPE_PATTERN = r"^[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*\Z"
# What git, Mercurial and their like name a commit by, whole or shortened.
COMMIT_PATTERN = r"[0-9A-Fa-f]{4,64}"
