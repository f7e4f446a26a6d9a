package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"locker/client"
)

func Example() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	lock, err := c.Lock(ctx, client.Request{
		Paths:   []string{"/srv/tm/mac.sparsebundle"},
		Timeout: time.Minute,
		Reason:  "nightly backup",
		OnQueued: func(q client.Queue) {
			fmt.Println("place in the queue:", q.Position)
		},
	})
	var refused *client.Error
	if errors.As(err, &refused) && refused.Code == client.CodeTimeout {
		for _, b := range refused.Blockers {
			fmt.Printf("held by %q\n", b.User)
		}
	}
	if err != nil {
		log.Fatal(err)
	}
	defer lock.Unlock(ctx)

	fmt.Println("fencing token:", lock.Token())
	if loss, ok := <-lock.Lost(); ok {
		log.Fatal(loss)
	}
}
