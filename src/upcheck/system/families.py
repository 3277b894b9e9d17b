"""What the families of a host are called: node_exporter's names, types, labels and columns."""

from __future__ import annotations

import re
from typing import NamedTuple

from upcheck.exposition import Family

# node_exporter's defaults (its --collector.*.exclude flags): squashfs images are always full, layers are no disks.
IGNORED_DEVICES = re.compile(r"(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+")
IGNORED_FILESYSTEMS = re.compile(r"autofs|devtmpfs|iso9660|overlay|squashfs")
IGNORED_MOUNTPOINTS = re.compile(
    r"/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)(/.*)?"
)


def gauge(name: str, sentence: str, *labels: str) -> Family:
    """A family whose values go up and down."""
    return Family(name, "gauge", labels, sentence)


def counter(name: str, sentence: str, *labels: str) -> Family:
    """A family whose values only grow."""
    return Family(name, "counter", labels, sentence)


class Column(NamedTuple):
    """One field of a table of devices: its family, and what its numbers are multiplied by."""

    family: Family
    unit: float = 1


CPU_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
CPU = counter("node_cpu_seconds_total", "Seconds each CPU spent in each mode.", "cpu", "mode")
CPU_GUEST = counter(
    "node_cpu_guest_seconds_total", "Seconds each CPU spent for guests, which are in user and nice, too.", "cpu", "mode"
)

LOADS = tuple(gauge(f"node_load{minutes}", f"Load average over {minutes} min.") for minutes in (1, 5, 15))
TIME = gauge("node_time_seconds", "Unix time of this host.")
BOOT_TIME = gauge("node_boot_time_seconds", "Unix time of the last boot.")
UNAME = gauge(
    "node_uname_info",
    "1, labelled with what uname says.",
    *("sysname", "release", "version", "machine", "nodename", "domainname"),
)
THREADS = gauge("node_processes_threads", "Threads of all processes, by the kernel's own count.")
PIDS = gauge("node_processes_pids", "Processes, counted at the last background sample.")
FILES = (
    gauge("node_filefd_allocated", "File descriptors in use on the host."),
    gauge("node_filefd_maximum", "File descriptors the host can have."),
)

# the line of /proc/stat that begins with this word
STAT = {
    b"intr": counter("node_intr_total", "Interrupts served."),
    b"ctxt": counter("node_context_switches_total", "Context switches."),
    b"btime": BOOT_TIME,
    b"processes": counter("node_forks_total", "Processes and threads begun."),
    b"procs_running": gauge("node_procs_running", "Threads that run or could run."),
    b"procs_blocked": gauge("node_procs_blocked", "Threads that wait for a disk."),
}

_MEMORY = {
    "MemTotal": "Memory the kernel can use, in bytes.",
    "MemAvailable": "Memory that new work could have without swapping, in bytes.",
    "MemFree": "Memory that nothing uses, in bytes.",
    "Buffers": "Memory holding raw disk blocks, in bytes.",
    "Cached": "Memory holding pages of files, in bytes.",
    "SwapTotal": "Swap space in all, in bytes.",
    "SwapFree": "Swap space that nothing uses, in bytes.",
}


def memory(field: str, *, in_bytes: bool = True) -> Family:
    """The family of a *field* of /proc/meminfo, such as `Active(anon)`: node_memory_Active_anon_bytes."""
    name = re.sub(r"\W+", "_", field).strip("_")
    return gauge(f"node_memory_{name}_bytes" if in_bytes else f"node_memory_{name}", _memory_help(field))


def _memory_help(field: str) -> str:
    return _MEMORY.get(field, f"{field} as in /proc/meminfo.")


def vmstat(field: str) -> Family:
    """The family of a *field* of /proc/vmstat. Untyped, as node_exporter has it: some fields go up and down."""
    return Family(f"node_vmstat_{field}", "untyped", (), f"{field} as in /proc/vmstat.")


_MILLISECONDS, _SECTOR = 0.001, 512
READ_BYTES = counter("node_disk_read_bytes_total", "Bytes read from the device.", "device")
WRITTEN_BYTES = counter("node_disk_written_bytes_total", "Bytes written to the device.", "device")
READS = counter("node_disk_reads_completed_total", "Reads the device completed.", "device")
WRITES = counter("node_disk_writes_completed_total", "Writes the device completed.", "device")
IO_TIME = counter("node_disk_io_time_seconds_total", "Seconds in which the device had work to do.", "device")
READ_TIME = counter("node_disk_read_time_seconds_total", "Seconds all reads took.", "device")
WRITE_TIME = counter("node_disk_write_time_seconds_total", "Seconds all writes took.", "device")
READS_MERGED = counter("node_disk_reads_merged_total", "Reads that were made one with another.", "device")
WRITES_MERGED = counter("node_disk_writes_merged_total", "Writes that were made one with another.", "device")
DISK = (  # the columns of /proc/diskstats after major, minor and name; kernels before 4.18 and 5.5 have fewer
    Column(READS),
    Column(READS_MERGED),
    Column(READ_BYTES, _SECTOR),
    Column(READ_TIME, _MILLISECONDS),
    Column(WRITES),
    Column(WRITES_MERGED),
    Column(WRITTEN_BYTES, _SECTOR),
    Column(WRITE_TIME, _MILLISECONDS),
    Column(gauge("node_disk_io_now", "Reads and writes in progress.", "device")),
    Column(IO_TIME, _MILLISECONDS),
    Column(
        counter("node_disk_io_time_weighted_seconds_total", "Seconds all reads and writes waited.", "device"),
        _MILLISECONDS,
    ),
    Column(counter("node_disk_discards_completed_total", "Discards the device completed.", "device")),
    Column(counter("node_disk_discards_merged_total", "Discards that were made one with another.", "device")),
    Column(counter("node_disk_discarded_sectors_total", "Sectors of 512 bytes discarded.", "device")),
    Column(counter("node_disk_discard_time_seconds_total", "Seconds all discards took.", "device"), _MILLISECONDS),
    Column(counter("node_disk_flush_requests_total", "Flushes the device completed.", "device")),
    Column(
        counter("node_disk_flush_requests_time_seconds_total", "Seconds all flushes took.", "device"), _MILLISECONDS
    ),
)


def _network(direction: str, field: str, sentence: str) -> Family:
    return counter(f"node_network_{direction}_{field}_total", sentence, "device")


RECEIVE_BYTES = _network("receive", "bytes", "Bytes the interface received.")
RECEIVE_PACKETS = _network("receive", "packets", "Packets the interface received.")
RECEIVE_ERRS = _network("receive", "errs", "Errors of the interface while receiving.")
RECEIVE_DROP = _network("receive", "drop", "Packets dropped while receiving.")
TRANSMIT_BYTES = _network("transmit", "bytes", "Bytes the interface sent.")
TRANSMIT_PACKETS = _network("transmit", "packets", "Packets the interface sent.")
TRANSMIT_ERRS = _network("transmit", "errs", "Errors of the interface while sending.")
TRANSMIT_DROP = _network("transmit", "drop", "Packets dropped while sending.")
NETWORK = (  # the columns of /proc/net/dev after the name
    RECEIVE_BYTES,
    RECEIVE_PACKETS,
    RECEIVE_ERRS,
    RECEIVE_DROP,
    _network("receive", "fifo", "Packets received that found no free buffer."),
    _network("receive", "frame", "Packets received with a broken frame."),
    _network("receive", "compressed", "Compressed packets the interface received."),
    _network("receive", "multicast", "Multicast packets the interface received."),
    TRANSMIT_BYTES,
    TRANSMIT_PACKETS,
    TRANSMIT_ERRS,
    TRANSMIT_DROP,
    _network("transmit", "fifo", "Packets to send that found no free buffer."),
    _network("transmit", "colls", "Collisions while sending."),
    _network("transmit", "carrier", "Losses of the carrier while sending."),
    _network("transmit", "compressed", "Compressed packets the interface sent."),
)

_MOUNT = ("device", "fstype", "mountpoint")
FILESYSTEM_SIZE = gauge("node_filesystem_size_bytes", "Size of the filesystem in bytes.", *_MOUNT)
FILESYSTEM_AVAIL = gauge("node_filesystem_avail_bytes", "Bytes that users can still write.", *_MOUNT)
FILESYSTEM_FREE = gauge("node_filesystem_free_bytes", "Bytes that root can still write.", *_MOUNT)
FILESYSTEM_FILES = gauge("node_filesystem_files", "Inodes in all.", *_MOUNT)
FILESYSTEM_FILES_FREE = gauge("node_filesystem_files_free", "Inodes that are free.", *_MOUNT)
FILESYSTEM_READONLY = gauge("node_filesystem_readonly", "1 if nothing can be written.", *_MOUNT)
FILESYSTEM_ERROR = gauge(
    "node_filesystem_device_error", "1 if the filesystem's numbers can't be had, or not within 5 s.", *_MOUNT
)


def _pressure(what: str, sentence: str) -> Family:
    return counter(f"node_pressure_{what}_seconds_total", sentence)


# the files of /proc/pressure; node_exporter leaves out the CPU's `full`, which is always 0 for a host
PRESSURE = {
    "cpu": (_pressure("cpu_waiting", "Seconds in which some thread waited for a CPU."),),
    "io": (
        _pressure("io_waiting", "Seconds in which some thread waited for a disk."),
        _pressure("io_stalled", "Seconds in which all threads waited for disks."),
    ),
    "memory": (
        _pressure("memory_waiting", "Seconds in which some thread waited for memory."),
        _pressure("memory_stalled", "Seconds in which all threads waited for memory."),
    ),
}
