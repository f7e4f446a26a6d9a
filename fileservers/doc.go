// Package fileservers holds tests alone: what real file servers let their clients do while locker holds a sparsebundle, and whether
// backups made meanwhile are whole.
//
// smbd is Debian's, started by the tests on a loopback port with a configuration and state of its own; its client is
// python3-impacket, which sends what a Mac never would: opens with any access and share mode. Nothing of the machine's own Samba is
// touched. The packages are installed by .ci/run; without them, or without root, which smbd needs, the tests are skipped.
package fileservers
