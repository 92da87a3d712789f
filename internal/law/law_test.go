package law

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/ottla/ottla"

// floors gives each room its floor: a package imports lower floors only. A subpackage stands on its parent's floor;
// within one room parent and children may import each other's leaves (Go itself forbids a cycle).
var floors = map[string]int{
	"internal/wire": 0, "internal/config": 0, "internal/metrics": 0, "internal/vfs": 0, "internal/clock": 0, "internal/vnet": 0, "internal/invariant": 0,
	"internal/record": 8, // the log stores what record understands, so record stands below it
	"internal/log":    10, "internal/purgatory": 10, "internal/timewheel": 9, "internal/quota": 10, "internal/security": 10,
	"internal/metadata": 20, "internal/coordinator": 21, "internal/tier": 20,
	"internal/controller": 30, "internal/group": 30, "internal/txn": 30, "internal/share": 30, "internal/sharecoord": 30, "internal/telemetry": 30, "internal/balance": 30,
	"internal/peer": 35, "internal/remote": 42, "internal/replica": 40, "internal/sharefetch": 40, "internal/sharestate": 40, "internal/network": 40,
	"internal/api": 50,
	"internal/web": 55, "internal/backup": 56, "internal/operate": 57,
	"internal/broker": 60,
	"":                65, // package ottla, the embeddable broker
	"ottlatest":       66,
	"internal/cli":    68,
	"cmd":             70,
	"internal/gen":    90, "internal/law": 90, "test": 90, "bench": 91, "sim": 90, "chaos": 91,
}

// pure rooms have no goroutine, clock, I/O or randomness of their own.
var pure = []string{"internal/controller", "internal/group", "internal/txn", "internal/share", "internal/sharecoord", "internal/replica/core", "internal/record", "internal/balance"}

type file struct {
	path, dir string
	ast       *ast.File
	lines     int
	test, gen bool
}

func room(dir string) string {
	for d := dir; ; d = filepath.Dir(d) {
		if _, ok := floors[d]; ok {
			return d
		}
		if d == "." || d == "" {
			return ""
		}
	}
}

func load(t *testing.T) (*token.FileSet, []file) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []file
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata" || name == "build") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(fset, p, src, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		dir := filepath.Dir(rel)
		if dir == "." {
			dir = ""
		}
		files = append(files, file{path: rel, dir: dir, ast: parsed, lines: strings.Count(string(src), "\n"),
			test: strings.HasSuffix(name, "_test.go"), gen: ast.IsGenerated(parsed)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("only %d Go files found below %s: the law would hold of nothing", len(files), root)
	}
	return fset, files
}

func TestFloors(t *testing.T) {
	_, files := load(t)
	for _, f := range files {
		from := room(f.dir)
		if f.dir != "" && from == "" {
			t.Errorf("%s: package %s has no floor; give it one in floors", f.path, f.dir)
			continue
		}
		if f.test {
			continue
		}
		for _, imp := range f.ast.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			if path != module && !strings.HasPrefix(path, module+"/") {
				continue
			}
			target := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
			to := room(target)
			if to != from && floors[to] >= floors[from] {
				t.Errorf("%s (floor %d) imports %s (floor %d): a package imports lower floors only", f.path, floors[from], target, floors[to])
			}
		}
	}
}

func isPure(dir string) bool {
	for _, p := range pure {
		if dir == p || strings.HasPrefix(dir, p+"/") {
			return true
		}
	}
	return false
}

func TestPureRooms(t *testing.T) {
	fset, files := load(t)
	clock := map[string]bool{"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true, "AfterFunc": true, "NewTimer": true, "NewTicker": true, "Tick": true}
	for _, f := range files {
		if f.test || !isPure(f.dir) {
			continue
		}
		for _, imp := range f.ast.Imports {
			switch path, _ := strconv.Unquote(imp.Path.Value); path {
			case "os", "net", "math/rand", "math/rand/v2", "crypto/rand", "syscall":
				t.Errorf("%s imports %s: a pure package gets what it needs as arguments", f.path, path)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: go statement in a pure package", fset.Position(n.Pos()))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && clock[n.Sel.Name] {
					t.Errorf("%s: time.%s in a pure package; take now as an argument", fset.Position(n.Pos()), n.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestSizes(t *testing.T) {
	fset, files := load(t)
	for _, f := range files {
		if f.gen {
			continue
		}
		if f.lines > 800 {
			t.Errorf("%s has %d lines; 800 is the law: split it along the design's lines", f.path, f.lines)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > 100 && !isTable(fn) {
				t.Errorf("%s: %s has %d lines; 100 is the law", f.path, fn.Name.Name, n)
			}
		}
	}
}

// isTable says whether a function is a pure table: one statement that returns or declares a composite literal.
func isTable(fn *ast.FuncDecl) bool {
	if len(fn.Body.List) != 1 {
		return false
	}
	ret, ok := fn.Body.List[0].(*ast.ReturnStmt)
	if !ok || len(ret.Results) != 1 {
		return false
	}
	_, ok = ret.Results[0].(*ast.CompositeLit)
	return ok
}

// Only vfs opens files and only clock tells time, inside the broker's rooms.
func TestFilesAndTime(t *testing.T) {
	fset, files := load(t)
	fileFuncs := map[string]bool{"Open": true, "OpenFile": true, "Create": true, "ReadFile": true, "WriteFile": true, "Remove": true, "RemoveAll": true,
		"Rename": true, "Mkdir": true, "MkdirAll": true, "ReadDir": true, "Stat": true, "Lstat": true, "Truncate": true}
	timeFuncs := map[string]bool{"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true, "AfterFunc": true, "NewTimer": true, "NewTicker": true, "Tick": true}
	for _, f := range files {
		if f.test || floors[room(f.dir)] >= 55 {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			if x.Name == "os" && fileFuncs[sel.Sel.Name] && f.dir != "internal/vfs" {
				t.Errorf("%s: os.%s: only vfs touches files", fset.Position(n.Pos()), sel.Sel.Name)
			}
			if x.Name == "time" && timeFuncs[sel.Sel.Name] && f.dir != "internal/clock" {
				t.Errorf("%s: time.%s: only clock tells time", fset.Position(n.Pos()), sel.Sel.Name)
			}
			return true
		})
	}
}

func TestPackageComments(t *testing.T) {
	_, files := load(t)
	has := map[string]bool{}
	for _, f := range files {
		if f.test {
			continue
		}
		if _, ok := has[f.dir]; !ok {
			has[f.dir] = false
		}
		if f.ast.Doc != nil && strings.TrimSpace(f.ast.Doc.Text()) != "" {
			has[f.dir] = true
		}
	}
	var missing []string
	for dir, ok := range has {
		if !ok {
			missing = append(missing, dir)
		}
	}
	sort.Strings(missing)
	for _, dir := range missing {
		t.Errorf("package %s has no comment that says what it knows and what it must never know", dir)
	}
}

// A test that sleeps waits for the machine, not for the condition.
func TestNoSleepInTests(t *testing.T) {
	fset, files := load(t)
	for _, f := range files {
		if !f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s: time.Sleep in a test; wait for the condition", fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

// Package-level state would be shared by the brokers of one process: only immutable declarations may stand there.
func TestNoPackageState(t *testing.T) {
	fset, files := load(t)
	for _, f := range files {
		if f.test || f.gen || floors[room(f.dir)] >= 70 {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			names := packageVars(files, f.dir)
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				as, ok := n.(*ast.AssignStmt)
				if !ok || as.Tok == token.DEFINE || fn.Name.Name == "init" {
					return true
				}
				for _, l := range as.Lhs {
					if id, ok := l.(*ast.Ident); ok && id.Obj != nil && names[id.Name] && id.Obj.Decl != nil {
						if _, isSpec := id.Obj.Decl.(*ast.ValueSpec); isSpec && f.ast.Scope.Lookup(id.Name) == id.Obj {
							t.Errorf("%s: %s assigns the package variable %s", fset.Position(n.Pos()), fn.Name.Name, id.Name)
						}
					}
				}
				return true
			})
		}
	}
}

func packageVars(files []file, dir string) map[string]bool {
	names := map[string]bool{}
	for _, f := range files {
		if f.dir != dir || f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
				for _, s := range g.Specs {
					for _, n := range s.(*ast.ValueSpec).Names {
						names[n.Name] = true
					}
				}
			}
		}
	}
	return names
}
