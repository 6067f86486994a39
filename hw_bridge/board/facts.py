"""What a board is and how warm it runs, read by one fixed script on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hw_bridge.board.errors import BoardError
from hw_bridge.board.transports import Transport

_MOST_LINES, _MOST_TEXT = 400, 300

# Of POSIX sh with what BusyBox and toybox have. $r is where the board's tree lies for a program
# in a container; / otherwise. Lines: a name, a tab, a value; the first of a name counts.
_HEAD = r"""
r="${MANDHELING_BOARD_ROOT:-}"
say() { [ -n "$2" ] && printf '%s\t%s\n' "$1" "$2"; }
build() { [ -r "$1" ] && grep -a -o 'CDSP\.[A-Z]*\.[0-9A-Za-z._-]*' "$1" 2>/dev/null | head -n 1; }
text() { for f in "$@"; do [ -r "$f" ] && head -c 200 "$f" 2>/dev/null | tr '\000\n\t' '   ' && return; done; }
"""  # noqa: E501
_FACTS = (
    _HEAD
    + r"""
say machine "$(uname -m)"
say kernel "$(uname -r)"
say user "$(id -un)"
[ -e $r/system/bin/linker64 ] && say system android || say system linux
say model "$(text $r/sys/firmware/devicetree/base/model)"
command -v getprop >/dev/null && say soc "$(getprop ro.soc.model)"
say soc "$(text $r/sys/devices/soc0/machine)"
say soc_id "$(text $r/sys/devices/soc0/soc_id)"
command -v getprop >/dev/null && {
say platform "$(getprop ro.board.platform)"
say build "$(getprop ro.build.fingerprint)"
}
for p in $r/sys/devices/system/cpu/cpufreq/policy*; do
say "governor.${p##*policy}" "$(text $p/scaling_governor)"
say "most_khz.${p##*policy}" "$(text $p/cpuinfo_max_freq)"
done
for p in $r/sys/class/remoteproc/remoteproc*; do
f="$(text $p/firmware | tr -d ' ')"
say "remoteproc.$(text $p/name | tr -d ' ')" "$(text $p/state | tr -d ' ') $f"
case "$(text $p/name) $f" in *cdsp*) say firmware "$(build $r/lib/firmware/$f)" ;; esac
done
for n in fastrpc-cdsp fastrpc-cdsp-secure adsprpc-smd adsprpc-smd-secure dma_heap/system ion; do
[ -e $r/dev/$n ] || continue
m=
[ -r $r/dev/$n ] && m=read
[ -w $r/dev/$n ] && m="$m write"
say "node.$n" "${m:-closed}"
done
for f in $r/vendor/firmware_mnt/image/cdsp.*; do
say firmware "$(build $f)"
done
builds=
for d in $r/usr/lib/dsp/cdsp $r/usr/lib/dsp $r/usr/lib/rfsa/adsp $r/usr/share/qcom/*/*/*/dsp/cdsp $r/vendor/dsp/cdsp $r/vendor/dsp $r/vendor/lib/rfsa/adsp $r/dsp/cdsp; do
f=$d/fastrpc_shell_unsigned_3
[ -r "$f" ] && say shell_file "$f" && builds="$builds $(build $f)"
done
say shell "$builds"
find $r/proc/device-tree/ -path '*compute-cb*' -name dma-coherent 2>/dev/null | head -n 1 | grep -q . && say dma_coherent yes
exit 0
"""  # noqa: E501
)
_WARMTH = (
    _HEAD
    + r"""
for p in $r/sys/class/thermal/thermal_zone*; do
say "temp_mc.$(text $p/type | tr -d ' ').${p##*zone}" "$(text $p/temp | tr -d ' ')"
done
for p in $r/sys/devices/system/cpu/cpufreq/policy*; do
say "khz.${p##*policy}" "$(text $p/scaling_cur_freq | tr -d ' ')"
done
exit 0
"""
)


def _read(transport: Transport, script: str) -> dict[str, str]:
    done = transport.run(["sh", "-c", script])
    if done.code:
        raise BoardError(f"{transport.where} cannot run a shell script ({done.code}: {done.said})")
    facts: dict[str, str] = {}
    for line in done.out.decode("utf-8", "replace").splitlines()[:_MOST_LINES]:
        name, tab, value = line.partition("\t")
        printable = "".join(char for char in value if char.isprintable())
        value = " ".join(printable.split())[:_MOST_TEXT]
        if tab and value and name not in facts:
            facts[name] = value
    return facts


@dataclass(frozen=True, slots=True)
class BoardFacts:
    """What was read from a board.

    Attributes
    ----------
    facts
        Names and values; what a board does not tell is left out.
    """

    facts: Mapping[str, str]

    def get(self, name: str) -> str:
        """A value; empty if it is unknown."""
        return self.facts.get(name, "")

    def group(self, prefix: str) -> dict[str, str]:
        """Those whose names start with ``prefix.``, without it."""
        return {
            name.removeprefix(prefix + "."): value
            for name, value in self.facts.items()
            if name.startswith(prefix + ".")
        }

    @property
    def system(self) -> str:
        """``linux`` or ``android``: which launcher it takes."""
        return "android" if self.get("system") == "android" else "linux"


def read_facts(transport: Transport) -> BoardFacts:
    """Read what a board is.

    Raises
    ------
    BoardError
        It cannot be reached, or is no AArch64 machine.
    """
    facts = BoardFacts(_read(transport, _FACTS))
    if facts.get("machine") not in ("aarch64", "arm64"):
        raise BoardError(
            f"{transport.where} is a {facts.get('machine') or 'nameless'} machine; a board has"
            " aarch64: choose another by --transport and --target"
        )
    return facts


def read_warmth(transport: Transport) -> dict[str, int]:
    """Temperatures in thousandths of a degree Celsius, and CPU clocks in kHz, as of now."""
    values = {}
    for name, text in _read(transport, _WARMTH).items():
        if text.lstrip("-").isdecimal():
            values[name] = int(text)
    return values
