package audit

// FS is what the log asks of the file system once it is open; names are relative to its directory. Tests
// wrap it to make calls fail. Reading, and opening the directory, are not behind it.
type FS interface {
	// Create makes a new file with at least least and at most most bytes of disk space reserved beyond its
	// end (its size stays 0), and says how many. ENOSPC when least cannot be had.
	Create(name string, least, most int64) (f File, reserved int64, err error)
	// Rename renames from, and refuses when to exists.
	Rename(from, to string) error
	Remove(name string) error
	// Stat says which file the name leads to and how long it is. fs.ErrNotExist when there is none.
	Stat(name string) (ino uint64, size int64, err error)
	// Sync puts names on disk, fsync(2) of the directory.
	Sync() error
}

// File is one segment, open for writing.
type File interface {
	Write(p []byte) (int, error) // one write(2) at the end; may write less than p without an error
	Sync() error                 // fdatasync(2)
	Truncate(size int64) error   // also gives back what is reserved beyond size
	Close() error
}
