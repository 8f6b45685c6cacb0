// Command nethttp is Go's net/http: each event read into a struct.
package main

import (
	"io"
	"net/http"
	"os"

	"gateway-peers/event"
)

func main() {
	http.HandleFunc("/v1/sources/logs", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && event.IsRight(body) {
			w.WriteHeader(http.StatusAccepted)
		} else {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
