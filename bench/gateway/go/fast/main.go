// Command fast is Go's fasthttp: each event read into a struct.
package main

import (
	"os"

	"gateway-peers/event"
	"github.com/valyala/fasthttp"
)

func main() {
	handler := func(c *fasthttp.RequestCtx) {
		if string(c.Path()) == "/v1/sources/logs" && event.IsRight(c.PostBody()) {
			c.SetStatusCode(fasthttp.StatusAccepted)
		} else {
			c.SetStatusCode(fasthttp.StatusBadRequest)
		}
	}
	server := &fasthttp.Server{Handler: handler}
	panic(server.ListenAndServe("127.0.0.1:" + os.Args[1]))
}
