// Package fileservers holds tests alone: what real file servers let their clients do while locker holds a sparsebundle, whether that is what
// 'locker doctor' has predicted, and whether backups made meanwhile are whole.
//
// smbd is Debian's, started by the tests on a loopback port with a configuration and state of its own; its client is
// python3-impacket, which sends what a Mac never would: opens with any access and share mode. Nothing of the machine's own Samba is
// touched. The packages are installed by .ci/run; without them, or without root, which smbd needs, the tests are skipped.
//
// Debian 12 has no netatalk. What is tried everywhere is an imitation, testdata/afpd_imitation.py, of the system calls of its afpd, and that it
// answers as a real one did: testdata/afpd-4.2.3.txt. The real one is tried beside it where LOCKER_TEST_NETATALK names a root directory that
// has it:
//
//	debootstrap --variant=minbase trixie DIR http://deb.debian.org/debian
//	chroot DIR apt-get install -y --no-install-recommends netatalk
//	LOCKER_TEST_NETATALK=DIR go test ./fileservers
package fileservers
