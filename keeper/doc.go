// Package keeper keeps copies of the broker's descriptors in another process, so that locks outlive the broker.
package keeper
