// Package event is the event of the measurements, read into a struct and looked at.
package event

import (
	"bytes"
	"encoding/json"
)

// Event is one event.
type Event struct {
	Ts      uint64  `json:"ts"`
	Level   string  `json:"level"`
	Service string  `json:"service"`
	Host    string  `json:"host"`
	UserID  uint64  `json:"user_id"`
	IP      string  `json:"ip"`
	Latency float64 `json:"latency_ms"`
	Status  uint16  `json:"status"`
	Msg     string  `json:"msg"`
}

// IsRight says whether a body is an event a line, and at least one.
func IsRight(body []byte) bool {
	count := 0
	for len(body) > 0 {
		line := body
		if end := bytes.IndexByte(body, '\n'); end >= 0 {
			line, body = body[:end], body[end+1:]
		} else {
			body = nil
		}
		if len(line) == 0 {
			continue
		}
		var event Event
		if json.Unmarshal(line, &event) != nil || event.Ts == 0 || event.Service == "" {
			return false
		}
		count++
	}
	return count > 0
}
