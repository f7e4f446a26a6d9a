package keeper

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestMoreEntriesThanThereIsRoomForEndTheConnection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keeper.sock")
	k := startChild(t, "keeper", path)
	k.limit(uint64(reserve + 20))
	conn := dialRaw(t, path)
	fd := file(t, 5)
	for id := range 11 {
		must(t, sendRaw(t, conn, appendMessage(nil, &message{kind: kindPut, set: 3, id: uint64(id)}), fd, fd))
	}
	if err := endsAtOnce(conn); err != nil {
		t.Error(err)
	}
	must(t, conn.Close())
	if line := k.line(); !strings.Contains(line, "room") {
		t.Errorf("the keeper says %q", line)
	}
	if lines, past := list(t, dialKeeper(t, path)); len(lines) != 10 || past.Room != 10 {
		t.Errorf("%d entries are kept, and there is room for %d", len(lines), past.Room)
	}
}

// What is replaced is closed beside the keeper's other work, and has descriptors until then.
func TestAFullKeeperCanReplaceEverythingManyTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keeper.sock")
	k := startChild(t, "keeper", path)
	k.limit(uint64(reserve + 100))
	c := dialKeeper(t, path)
	if _, past := list(t, c); past.Room != 50 {
		t.Fatalf("there is room for %d", past.Room)
	}
	fd := file(t, 5)
	for n := range 20_000 {
		must(t, upload(t.Context(), c, Entry{ID: uint64(n % 50), Lock: fd, Holder: fd}))
	}
	must(t, c.Sync(t.Context()))
}

// The kernel cuts the descriptors that it has no number for off the message: MSG_CTRUNC, recvmsg(2).
func TestDescriptorsThatAreCutOffEndTheConnection(t *testing.T) {
	for _, missing := range []int{1, 2} {
		path := filepath.Join(t.TempDir(), "keeper.sock")
		k := startChild(t, "keeper", path)
		fd := file(t, 5)
		c := dialKeeper(t, path)
		must(t, c.Put(Entry{ID: 1, Lock: fd, Holder: fd}))
		must(t, c.Sync(t.Context()))
		before := k.fds()
		old := k.leaveFree(2 - missing)
		must(t, c.Put(Entry{ID: 2, Lock: fd, Holder: fd}))
		<-c.Gone()
		if line := k.line(); !strings.Contains(line, "too many open files") {
			t.Errorf("the keeper says %q", line)
		}
		must(t, c.Close())
		k.limit(old)
		c = dialKeeper(t, path)
		if past := wantList(t, c, "1 5 5 "); past.Complete {
			t.Error("it has lost an entry, and says that it has all")
		}
		// What came with the message is closed beside its other work.
		after := k.fds()
		for deadline := time.Now().Add(time.Minute); after != before && time.Now().Before(deadline); after = k.fds() {
			runtime.Gosched()
		}
		if after != before {
			t.Errorf("the keeper has %d descriptors, before it had %d", after, before)
		}
		must(t, c.Put(Entry{ID: 2, Lock: fd, Holder: fd}))
		wantList(t, c, "1 5 5 ", "2 5 5 ")
	}
}

func TestAcceptWithoutDescriptorsIsNoBusyLoop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keeper.sock")
	k := startChild(t, "keeper", path)
	old := k.leaveFree(0)
	c := dialKeeper(t, path) // waits in the backlog
	for pause := minPause; pause < 8*minPause; pause *= 2 {
		if line := k.line(); !strings.Contains(line, "accept") || !strings.HasSuffix(line, "pause "+pause.String()+"\n") {
			t.Errorf("the keeper says %q, want a pause of %v", line, pause)
		}
	}
	k.limit(old)
	must(t, c.Sync(t.Context()))
}
