package wire

import "testing"

func BenchmarkAppendLock(b *testing.B) {
	dst := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		m := Lock{Mode: Exclusive, Wait: Block, Life: Attached, Paths: []string{"/srv/timemachine/alice.sparsebundle"}}
		if _, err := Append(dst, 7, &m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseLock(b *testing.B) {
	frame, err := Append(nil, 7, lockOf("/srv/timemachine/alice.sparsebundle"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Parse(frame[4:]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendGranted(b *testing.B) {
	dst := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		m := Granted{Grants: []Grant{{ID: 1041, Rests: RestOFD | RestFlock}}}
		if _, err := Append(dst, 7, &m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseGranted(b *testing.B) {
	frame, err := Append(nil, 7, &Granted{Grants: []Grant{{ID: 1041, Rests: RestOFD | RestFlock}}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Parse(frame[4:]); err != nil {
			b.Fatal(err)
		}
	}
}
