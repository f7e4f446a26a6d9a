package locker_test

import (
	"fmt"
	"testing"
	"time"
)

// noonZone gives a time zone in which it is about noon. A time of another day is shown with its date, so what a script has seen before midnight
// it would not see again after it.
func noonZone(now time.Time) string {
	switch late := now.UTC().Hour() - 12; {
	case late > 0:
		return fmt.Sprintf("Etc/GMT+%d", late) // west of Greenwich: tzset(3)
	case late < 0:
		return fmt.Sprintf("Etc/GMT-%d", -late)
	}
	return "UTC"
}

func TestItIsNoonInEveryScript(t *testing.T) {
	for hour := range 24 {
		now := time.Date(2026, 11, 28, hour, 59, 59, 0, time.UTC)
		name := noonZone(now)
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Log("no time zones here, and then it is UTC everywhere:", err)
			return
		}
		if got := now.In(zone).Hour(); got != 12 {
			t.Errorf("%02d o'clock in UTC is %02d in %s, want 12", hour, got, name)
		}
	}
}
