package guard

import "encoding/binary"

// decoder takes fields from the front of rest and remembers the first error.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) take(n int) []byte {
	if d.err == nil && len(d.rest) < n {
		d.err = errTruncated
	}
	if d.err != nil {
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) number() uint32 {
	n := d.u32()
	d.must(n != 0)
	return n
}

func (d *decoder) text(most int) string {
	n := int(d.u16())
	if d.err == nil && n > most {
		d.err = errLimit
	}
	return string(d.take(n))
}

func (d *decoder) paths() []string {
	n := int(d.u16())
	if d.err == nil && n > MaxPaths {
		d.err = errLimit
	}
	d.must(n != 0)
	var all []string
	for range n {
		path := d.text(maxPath)
		d.must(isPath(path))
		if d.err != nil {
			return nil
		}
		all = append(all, path)
	}
	return all
}

// isPath reports whether the kernel could show an executable so.
func isPath(path string) bool {
	if len(path) < 2 || len(path) > maxPath || path[0] != '/' {
		return false
	}
	for i := range len(path) {
		if path[i] == 0 {
			return false
		}
	}
	return true
}

func (d *decoder) must(ok bool) {
	if d.err == nil && !ok {
		d.err = errValue
	}
}
