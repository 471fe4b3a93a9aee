// Draws the pictures of the guides: every *.d2 file of a folder becomes an SVG beside it. The version of D2 is pinned in go.mod.
// The SVG contains the SHA-256 of its source, so that a test notices a changed source whose picture was not drawn again.
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"oss.terrastruct.com/d2/d2graph"
	"oss.terrastruct.com/d2/d2layouts/d2elklayout"
	"oss.terrastruct.com/d2/d2lib"
	"oss.terrastruct.com/d2/d2renderers/d2svg"
	"oss.terrastruct.com/d2/d2themes/d2themescatalog"
	"oss.terrastruct.com/d2/lib/log"
	"oss.terrastruct.com/d2/lib/textmeasure"
	"oss.terrastruct.com/util-go/go2"
)

// If a viewer does not load embedded fonts, a sans-serif font is the closest.
var family = regexp.MustCompile(`(\n\tfont-family: "[^"]+");`)

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: render FOLDER"))
	}
	sources, err := filepath.Glob(filepath.Join(os.Args[1], "*.d2"))
	if err != nil || len(sources) == 0 {
		fail(fmt.Errorf("no *.d2 file in %s: %w", os.Args[1], err))
	}
	for _, source := range sources {
		if err := draw(source); err != nil {
			fail(fmt.Errorf("%s: %w", source, err))
		}
	}
}

func draw(path string) error {
	source, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	ruler, err := textmeasure.NewRuler()
	if err != nil {
		return err
	}
	render := &d2svg.RenderOpts{
		Pad:     go2.Pointer(int64(20)),
		ThemeID: &d2themescatalog.NeutralDefault.ID,
		// For browsers that prefer dark pages. Both themes have their own background.
		DarkThemeID: &d2themescatalog.DarkMauve.ID,
	}
	compile := &d2lib.CompileOptions{
		Ruler:          ruler,
		Layout:         go2.Pointer("elk"),
		LayoutResolver: func(string) (d2graph.LayoutGraph, error) { return d2elklayout.DefaultLayout, nil },
	}
	diagram, _, err := d2lib.Compile(log.WithDefault(context.Background()), string(source), compile, render)
	if err != nil {
		return err
	}
	svg, err := d2svg.Render(diagram, render)
	if err != nil {
		return err
	}
	declaration, drawing, found := strings.Cut(string(svg), "?>")
	if !found {
		return fmt.Errorf("the SVG has no XML declaration")
	}
	drawing = family.ReplaceAllString(drawing, "$1, sans-serif;")
	comment := fmt.Sprintf("\n<!-- Drawn from %s by `make generate`; sha256 %x -->\n", filepath.Base(path), sha256.Sum256(source))
	return os.WriteFile(strings.TrimSuffix(path, ".d2")+".svg", []byte(declaration+"?>"+comment+drawing+"\n"), 0o644)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "pictures:", err)
	os.Exit(1)
}
