package audit

import (
	"hash/crc32"
	"math"
	"strconv"
	"time"
)

// castagnoli is never changed. The processor computes this polynomial by itself: about 20 ns a line.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendLine appends r as one line of the log, without the newline: a JSON object in printable ASCII.
// The order of the fields is that of doc.go. Nothing in a record can make it fail.
func AppendLine(dst []byte, r *Record) []byte {
	dst = appendBody(dst, r)
	if r.Prev != "" {
		dst = append(dst, `,"prev":"`...)
		dst = appendText(dst, r.Prev)
		dst = append(dst, '"')
	}
	return append(dst, '}')
}

// appendChained is AppendLine with the hash of the line before at hand as hex digits.
func appendChained(dst []byte, r *Record, prev []byte) []byte {
	dst = appendBody(dst, r)
	dst = append(dst, `,"prev":"`...)
	dst = append(dst, prev...)
	return append(dst, `"}`...)
}

// appendBody appends the line up to and with its crc. ParseLine reads the same fields in the same order.
func appendBody(dst []byte, r *Record) []byte {
	start := len(dst)
	dst = strconv.AppendUint(append(dst, `{"seq":`...), r.Seq, 10)
	dst = appendTime(dst, `,"time":"`, r.Time)
	dst = appendInt(dst, `,"boot":`, int64(r.Boot))
	dst = appendText(append(dst, `,"event":"`...), string(r.Event))
	dst = append(dst, '"')
	dst = appendUint(dst, `,"id":`, r.ID)
	if r.Peer {
		dst = strconv.AppendUint(append(dst, `,"uid":`...), uint64(r.UID), 10)
		dst = strconv.AppendUint(append(dst, `,"gid":`...), uint64(r.GID), 10)
	}
	dst = appendString(dst, `,"user":"`, r.User)
	if r.HasLogin {
		dst = strconv.AppendUint(append(dst, `,"loginuid":`...), uint64(r.LoginUID), 10)
	}
	dst = appendInt(dst, `,"pid":`, int64(r.PID))
	dst = appendUint(dst, `,"start":`, r.Start)
	dst = appendString(dst, `,"command":"`, r.Command)
	dst = appendString(dst, `,"path":"`, r.Path)
	dst = appendString(dst, `,"target":"`, r.Target)
	dst = appendUint(dst, `,"dev":`, r.Dev)
	dst = appendUint(dst, `,"ino":`, r.Ino)
	dst = appendString(dst, `,"mode":"`, r.Mode)
	dst = appendList(dst, `,"rests":[`, r.Rests)
	dst = appendString(dst, `,"life":"`, r.Life)
	dst = appendUint(dst, `,"session":`, r.Session)
	dst = appendString(dst, `,"tag":"`, r.Tag)
	dst = appendString(dst, `,"reason":"`, r.Reason)
	dst = appendString(dst, `,"rule":"`, r.Rule)
	dst = appendInt(dst, `,"grace_ns":`, int64(r.Grace))
	dst = appendInt(dst, `,"waited_ns":`, int64(r.Waited))
	dst = appendInt(dst, `,"held_ns":`, int64(r.Held))
	dst = appendTime(dst, `,"expires":"`, r.Expires)
	dst = appendString(dst, `,"code":"`, r.Code)
	dst = appendString(dst, `,"text":"`, r.Text)
	dst = appendUint(dst, `,"count":`, r.Count)
	dst = appendString(dst, `,"sha256":"`, r.SHA256)
	dst = appendString(dst, `,"by":"`, r.By)
	dst = appendUint(dst, `,"first":`, r.First)
	dst = appendUint(dst, `,"last":`, r.Last)
	dst = appendInt(dst, `,"gap_ns":`, int64(r.Gap))
	dst = appendUint(dst, `,"request":`, uint64(r.Request))
	dst = appendString(dst, `,"boot_id":"`, r.BootID)
	dst = appendUint(dst, `,"synced":`, r.Synced)
	dst = appendTime(dst, `,"altered":"`, r.Altered)
	if r.Missed {
		dst = append(dst, `,"missed":true`...)
	}
	sum := crc32.Checksum(dst[start:], castagnoli)
	dst = appendHex(append(dst, `,"crc":"`...), sum, 8)
	return append(dst, '"')
}

func appendUint(dst []byte, key string, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return strconv.AppendUint(append(dst, key...), v, 10)
}

func appendInt(dst []byte, key string, v int64) []byte {
	if v == 0 {
		return dst
	}
	return strconv.AppendInt(append(dst, key...), v, 10)
}

func appendString(dst []byte, key, v string) []byte {
	if v == "" {
		return dst
	}
	return append(appendText(append(dst, key...), v), '"')
}

func appendList(dst []byte, key string, list []string) []byte {
	if len(list) == 0 {
		return dst
	}
	dst = append(dst, key...)
	for i, v := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendText(append(dst, '"'), v), '"')
	}
	return append(dst, ']')
}

// noTime stands for the zero time.Time where a time is kept as Unix nanoseconds.
const noTime = math.MinInt64

// nanos gives t as Unix nanoseconds. Times that do not fit (before 1677, after 2262) become the nearest that does.
func nanos(t time.Time) int64 {
	const limit = math.MaxInt64 / 1_000_000_000 // seconds
	switch sec := t.Unix(); {
	case t.IsZero():
		return noTime
	case sec >= limit:
		return limit * 1e9
	case sec <= -limit:
		return -limit * 1e9
	}
	return t.UnixNano()
}

func timeOf(ns int64) time.Time {
	if ns == noTime {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// appendTime writes RFC 3339 in UTC with always nine digits, so that lines sort and one time has one spelling.
func appendTime(dst []byte, key string, t time.Time) []byte {
	ns := nanos(t)
	if ns == noTime {
		return dst
	}
	sec, frac := ns/1e9, ns%1e9
	if frac < 0 {
		sec, frac = sec-1, frac+1e9
	}
	day, rest := sec/86400, sec%86400
	if rest < 0 {
		day, rest = day-1, rest+86400
	}
	year, month, mday := civil(day)
	var b = [...]byte{'-', '-', '-', '-', '-', '-', '-', '-', '-', '-', 'T', '-', '-', ':', '-', '-', ':', '-', '-', '.',
		'-', '-', '-', '-', '-', '-', '-', '-', '-', 'Z', '"'}
	put2(b[0:], year/100)
	put2(b[2:], year%100)
	put2(b[5:], month)
	put2(b[8:], mday)
	put2(b[11:], rest/3600)
	put2(b[14:], rest/60%60)
	put2(b[17:], rest%60)
	put2(b[20:], frac/1e7)
	put2(b[22:], frac/1e5%100)
	put2(b[24:], frac/1e3%100)
	put2(b[26:], frac/10%100)
	b[28] = byte('0' + frac%10)
	return append(append(dst, key...), b[:]...)
}

func put2(b []byte, v int64) { b[0], b[1] = byte('0'+v/10), byte('0'+v%10) }

// civil turns days since 1970-01-01 into a date of the proleptic Gregorian calendar.
// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
func civil(day int64) (year, month, mday int64) {
	z := day + 719468
	era := z / 146097 // z is positive for every time that nanos returns
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	mday = doy - (153*mp+2)/5 + 1
	month = mp + 3
	if month > 12 {
		month -= 12
	}
	year = yoe + era*400
	if month <= 2 {
		year++
	}
	return year, month, mday
}
