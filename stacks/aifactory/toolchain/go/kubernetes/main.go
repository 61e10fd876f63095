// Command pulumi-resource-kubernetes is upstream's provider with its two generated JSON files embedded.
//
// Upstream's own main package does not build from the module proxy: the files it embeds are git-ignored
// there. The toolkit derives them from the module's schema.json and terraform-mapping.json before the build.
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version"
)

//go:embed schema-embed.json
var schema []byte

//go:embed terraform-mapping-embed.json
var terraformMapping []byte

func main() {
	provider.Serve("kubernetes", version.Version, schema, terraformMapping)
}
