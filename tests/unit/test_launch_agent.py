from __future__ import annotations

import plistlib
from pathlib import Path

from claude_loop.launch_agent import is_ours, property_list


def test_the_list_names_command_and_state_directory():
    content = property_list(Path("/opt/<cl>/claude-loop"), Path("/data/cl"))
    told = plistlib.loads(content)
    assert told["ProgramArguments"] == ["/opt/<cl>/claude-loop", "serve"]
    assert told["EnvironmentVariables"] == {"CLAUDE_LOOP_HOME": "/data/cl"}
    assert told["KeepAlive"] == {"SuccessfulExit": False}


def test_what_is_ours():
    assert is_ours(property_list(Path("/a"), Path("/b")))
    assert not is_ours(plistlib.dumps({"Label": "other"}))
    assert not is_ours(plistlib.dumps([]))
    assert not is_ours(b"not a list")
